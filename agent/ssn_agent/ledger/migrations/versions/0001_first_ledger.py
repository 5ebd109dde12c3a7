"""The first ledger."""

import sqlalchemy as sa
from alembic import op

INT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UNDELIVERED = sa.text("published_at IS NULL AND problem IS NULL")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "settings_changes",
        sa.Column("id", INT, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(length=120), nullable=False),
        sa.Column("old_digest", sa.String(length=64), nullable=True),
        sa.Column("new_digest", sa.String(length=64), nullable=False),
        sa.Column("new", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "streams",
        sa.Column("id", INT, nullable=False),
        sa.Column("station", sa.String(length=200), nullable=False),
        sa.Column("camera", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Uuid(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_sequence", INT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("station", "camera", "epoch"),
    )
    op.create_table(
        "triggers",
        sa.Column("id", INT, nullable=False),
        sa.Column("stream_id", INT, nullable=False),
        sa.Column("sequence", INT, nullable=False),
        sa.Column("triggered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("part_id", sa.String(length=120), nullable=True),
        sa.Column("product", sa.String(length=200), nullable=True),
        sa.Column("frame_id", INT, nullable=True),
        sa.Column("width", INT, nullable=True),
        sa.Column("height", INT, nullable=True),
        sa.ForeignKeyConstraint(["stream_id"], ["streams.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("stream_id", "sequence"),
    )
    op.create_index("ix_triggers_part_id", "triggers", ["part_id"])
    op.create_index("ix_triggers_triggered_at", "triggers", ["triggered_at"])

    op.create_table(
        "defects",
        sa.Column("id", INT, nullable=False),
        sa.Column("trigger_id", INT, nullable=False),
        sa.Column("x", INT, nullable=True),
        sa.Column("y", INT, nullable=True),
        sa.Column("width", INT, nullable=True),
        sa.Column("height", INT, nullable=True),
        sa.Column("area_px", INT, nullable=True),
        sa.Column("peak_x", INT, nullable=False),
        sa.Column("peak_y", INT, nullable=False),
        sa.Column("peak", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["trigger_id"], ["triggers.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_defects_trigger_id", "defects", ["trigger_id"])

    op.create_table(
        "outbox",
        sa.Column("id", INT, nullable=False),
        sa.Column("trigger_id", INT, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["trigger_id"], ["triggers.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_outbox_trigger_id", "outbox", ["trigger_id"])
    op.create_index(
        "ix_outbox_undelivered",
        "outbox",
        ["id"],
        sqlite_where=UNDELIVERED,
        postgresql_where=UNDELIVERED,
    )

    op.create_table(
        "verdicts",
        sa.Column("trigger_id", INT, nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("bundle_name", sa.String(length=64), nullable=True),
        sa.Column("bundle_version", sa.String(length=64), nullable=True),
        sa.Column("bundle_digest", sa.String(length=64), nullable=True),
        sa.Column("engine", sa.String(length=48), nullable=True),
        sa.Column("settings_digest", sa.String(length=64), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("deadline_ms", sa.Float(), nullable=False),
        sa.Column("heatmap_file", sa.Text(), nullable=True),
        sa.Column("late_verdict", sa.String(length=8), nullable=True),
        sa.Column("late_score", sa.Float(), nullable=True),
        sa.Column("late_ms", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["trigger_id"], ["triggers.id"]),
        sa.PrimaryKeyConstraint("trigger_id"),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("verdicts")
    op.drop_index("ix_outbox_undelivered", "outbox")
    op.drop_index("ix_outbox_trigger_id", "outbox")

    op.drop_table("outbox")
    op.drop_index("ix_defects_trigger_id", "defects")

    op.drop_table("defects")
    op.drop_index("ix_triggers_triggered_at", "triggers")
    op.drop_index("ix_triggers_part_id", "triggers")

    op.drop_table("triggers")
    op.drop_table("streams")
    op.drop_table("settings_changes")
