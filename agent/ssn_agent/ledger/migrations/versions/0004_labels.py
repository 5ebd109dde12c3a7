"""What people say of verdicts.

Back down the labels go: export them first.
"""

import sqlalchemy as sa
from alembic import op

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

precious = ("labels",)
"""People's work: the way back drops these tables only where it is told to (ledger/downgrade.py)."""


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "labels",
        sa.Column("id", INT, nullable=False),
        sa.Column("trigger_id", INT, nullable=False),
        sa.Column("label", sa.String(length=4), nullable=False),
        sa.Column("defect_type", sa.String(length=200), nullable=True),
        sa.Column("labeller", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=True),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("message_id", sa.String(length=120), nullable=True),
        sa.ForeignKeyConstraint(["trigger_id"], ["triggers.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("labeller", "message_id"),
    )
    op.create_index("ix_labels_trigger_id", "labels", ["trigger_id"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("labels")
