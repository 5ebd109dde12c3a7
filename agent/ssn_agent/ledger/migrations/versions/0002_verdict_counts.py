"""Counts of verdicts beside their rows, which may be deleted.

Back down the counts go. Where rows were deleted the older version finds that its counts do not add
up, and begins a new epoch.
"""

import sqlalchemy as sa
from alembic import op

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and count what is there."""
    op.create_table(
        "verdict_counts",
        sa.Column("stream_id", INT, nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("count", INT, nullable=False),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"]),
        sa.PrimaryKeyConstraint("stream_id", "verdict", "reason"),
    )
    op.execute(
        "INSERT INTO verdict_counts (stream_id, verdict, reason, count) "
        "SELECT triggers.stream_id, verdict, coalesce(reason, ''), count(*) "
        "FROM verdicts JOIN triggers ON triggers.id = verdicts.trigger_id "
        "GROUP BY triggers.stream_id, verdict, coalesce(reason, '')"
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("verdict_counts")
