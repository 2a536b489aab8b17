INSERT INTO customers (id, name) SELECT i, 'customer ' || i FROM generate_series(1, 1000) i;
INSERT INTO orders SELECT i, 1 + i % 1000, (i % 10000) / 100.0, 'new' FROM generate_series(1, 10000) i;
CREATE ROLE subscriber LOGIN REPLICATION PASSWORD 'compose';
GRANT SELECT ON orders, customers TO subscriber;
CREATE PUBLICATION shop FOR TABLE orders, customers;
