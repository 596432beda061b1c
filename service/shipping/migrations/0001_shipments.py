"""Shipments by order, and the tables of their events."""

import sqlalchemy as sa
from alembic import op

from observability.events.inbox import inbox_table
from observability.events.outbox import outbox_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "shipments",
        sa.Column("order_id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("refusal", sa.String(200)),
    )
    outbox_table("shipping").create(op.get_bind())
    inbox_table("shipping").create(op.get_bind())


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("shipping_inbox")
    op.drop_table("shipping_outbox")
    op.drop_table("shipments")
