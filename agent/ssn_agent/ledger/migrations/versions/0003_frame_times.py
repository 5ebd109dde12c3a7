"""When a trigger's frame was taken, by this machine's clock and by the camera's.

Back down the times go; verdicts do not depend on them.
"""

import sqlalchemy as sa
from alembic import op

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the columns; of older triggers nobody knows it."""
    op.add_column("triggers", sa.Column("captured_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("triggers", sa.Column("device_timestamp_ns", INT, nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("triggers", "device_timestamp_ns")
    op.drop_column("triggers", "captured_at")
