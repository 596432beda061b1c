"""Events through NATS JetStream, for `BROKER_URL=nats://...`. Only this folder needs nats-py.

    connection   one for a process, which comes back by itself
    streams      where JetStream keeps events, and those that died
    binding      an event as a message
    delivery     outbox → stream
    pull         stream → messages here
    consumer     messages → handlers
    dead         what people do with events that died

JetStream says that it has an event before that is on the disk: it syncs its files every two minutes. Killing the server
loses nothing, since the kernel still writes them; a power failure of its only machine loses what was stored in those
minutes. From 2.10 on the server has `sync_interval: always`, at the cost of a sync for each event; three replicas of a
stream in different places guard against the same. Servers before 2.10.23 could lose a whole stream when killed. Either
way `delivery` sends again what it finds missing, and the inbox leaves out what came twice.
"""
