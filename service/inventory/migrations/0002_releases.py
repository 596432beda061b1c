"""Reservations that were released are kept as such; and anvils, which are on the shelf but are not shipped."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_stock = sa.table(
    "stock",
    sa.column("sku", sa.String),
    sa.column("name", sa.String),
    sa.column("unit_price", sa.BigInteger),
    sa.column("currency", sa.String),
    sa.column("available", sa.BigInteger),
)


def upgrade() -> None:
    """Add the mark, which an order has without goods too, and the anvils."""
    with op.batch_alter_table("reservations") as reservations:
        reservations.alter_column("sku", existing_type=sa.String(64), nullable=True)
        reservations.add_column(sa.Column("released", sa.Boolean, nullable=False, server_default=sa.false()))
    op.bulk_insert(
        _stock, [{"sku": "anvil", "name": "Anvil", "unit_price": 19900, "currency": "EUR", "available": 100_000}]
    )


def downgrade() -> None:
    """Forget what was released, and the anvils."""
    op.execute("DELETE FROM reservations WHERE released OR sku = 'anvil'")
    op.execute("DELETE FROM stock WHERE sku = 'anvil'")
    with op.batch_alter_table("reservations") as reservations:
        reservations.drop_column("released")
        reservations.alter_column("sku", existing_type=sa.String(64), nullable=False)
