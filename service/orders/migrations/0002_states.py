"""States of orders, and the tables of their events.

Orders that are there were placed and done: they become `confirmed`. What a key leads to moves to its order, so each key
gets one: a refused request a `refused` order, which answers as before, and one that was not finished an `abandoned`
order, with the event that has everything given back that it may have taken. Of neither is it known what was ordered
(sku `unknown`, quantity 0). No service of the version before may run any more.
"""

import json
import time

import sqlalchemy as sa
from alembic import op

from observability.events.inbox import inbox_table
from observability.events.outbox import outbox_table

revision = "0002"
down_revision = "0001"

_OLD_KEYS = ("leased_until", "done", "refusal", "detail")


def upgrade() -> None:
    """Move the outcome of a request from its key to its order."""
    with op.batch_alter_table("orders") as orders:
        orders.alter_column("amount", existing_type=sa.BigInteger, nullable=True)
        orders.alter_column("currency", existing_type=sa.String(3), nullable=True)
        orders.add_column(sa.Column("state", sa.String(16), nullable=False, server_default="confirmed"))
        orders.add_column(sa.Column("history", sa.Text, nullable=False, server_default="[]"))
        orders.add_column(sa.Column("leased_until", sa.BigInteger, nullable=False, server_default="0"))
        orders.add_column(sa.Column("traceparent", sa.String(55)))
        orders.add_column(sa.Column("tracestate", sa.String(512)))
        orders.add_column(sa.Column("refusal", sa.String(64)))
        orders.add_column(sa.Column("detail", sa.String(500)))
    op.execute("""UPDATE orders SET history = '[{"state":"confirmed","at":' || created_at || '}]'""")
    pending = sa.text("state = 'pending'")
    op.create_index("orders_pending", "orders", ["leased_until"], sqlite_where=pending, postgresql_where=pending)
    outbox = outbox_table("orders")
    outbox.create(op.get_bind())
    inbox_table("orders").create(op.get_bind())

    now = time.time_ns() // 1000
    insert = sa.text("""
        INSERT INTO orders (id, created_at, sku, quantity, state, history, refusal, detail)
        SELECT order_id, :now, 'unknown', 0, 'abandoned', :history, refusal, detail
        FROM idempotency_keys WHERE order_id NOT IN (SELECT id FROM orders)
    """)
    history = json.dumps([{"state": "abandoned", "at": now}])
    op.get_bind().execute(insert, {"now": now, "history": history})
    op.execute("""
        UPDATE orders SET state = 'refused', history = replace(history, 'abandoned', 'refused')
        WHERE state = 'abandoned' AND refusal IS NOT NULL
    """)
    abandoned = op.get_bind().execute(sa.text("SELECT id FROM orders WHERE state = 'abandoned'")).scalars()
    op.bulk_insert(
        outbox,
        [
            {
                "id": f"0002-{order_id}",
                "type": "order.abandoned",
                "source": "/orders",
                "subject": order_id,
                "data": b'{"reason":"Its request was not finished."}',
                "time": now,
                "added_at": now,
                "waits_since": now * 1000,
                "due_at": 0,
                "attempts": 0,
            }
            for order_id in abandoned
        ],
    )
    for name in _OLD_KEYS:
        op.drop_column("idempotency_keys", name)


def downgrade() -> None:
    """Forget the states, and the orders that were not placed."""
    op.drop_table("orders_inbox")
    op.drop_table("orders_outbox")
    op.drop_index("orders_pending", "orders")
    op.execute("DELETE FROM orders WHERE amount IS NULL")
    op.execute("DELETE FROM idempotency_keys WHERE order_id NOT IN (SELECT id FROM orders)")
    with op.batch_alter_table("orders") as orders:
        for name in ("state", "history", "leased_until", "traceparent", "tracestate", "refusal", "detail"):
            orders.drop_column(name)
        orders.alter_column("amount", existing_type=sa.BigInteger, nullable=False)
        orders.alter_column("currency", existing_type=sa.String(3), nullable=False)
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(sa.Column("leased_until", sa.BigInteger, nullable=False, server_default="0"))
        keys.add_column(sa.Column("done", sa.Boolean, nullable=False, server_default=sa.true()))
        keys.add_column(sa.Column("refusal", sa.String(64)))
        keys.add_column(sa.Column("detail", sa.String(500)))
