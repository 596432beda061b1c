"""Stock and reservations, with the first goods on the shelf."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables and fill the shelf."""
    stock = op.create_table(
        "stock",
        sa.Column("sku", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("unit_price", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("available", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.String(64), primary_key=True),
        sa.Column("sku", sa.String(64), sa.ForeignKey("stock.sku"), nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(
        stock,
        [
            {"sku": "mug", "name": "Mug", "unit_price": 1250, "currency": "EUR", "available": 1_000_000},
            {"sku": "teapot", "name": "Teapot", "unit_price": 4900, "currency": "EUR", "available": 100_000},
            {"sku": "kettle", "name": "Kettle", "unit_price": 8900, "currency": "EUR", "available": 3},
        ],
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("reservations")
    op.drop_table("stock")
