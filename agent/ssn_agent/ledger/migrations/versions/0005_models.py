"""Which bundle judged when, and why; pictures that are kept; challenge parts.

Back down these go.
"""

import sqlalchemy as sa
from alembic import op

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the columns."""
    op.create_table(
        "model_events",
        sa.Column("id", INT, nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("follows", sa.String(length=64), nullable=True),
        sa.Column("camera", sa.String(length=64), nullable=True),
        sa.Column("bundle_name", sa.String(length=64), nullable=True),
        sa.Column("bundle_version", sa.String(length=64), nullable=True),
        sa.Column("bundle_digest", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.String(length=1000), nullable=True),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event_id"),
    )
    op.add_column("verdicts", sa.Column("image_file", sa.Text(), nullable=True))
    op.add_column("verdicts", sa.Column("challenge", sa.String(length=4), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("verdicts", "challenge")
    op.drop_column("verdicts", "image_file")
    op.drop_table("model_events")
