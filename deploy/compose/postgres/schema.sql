-- On all three servers: the tables, and the role that lockstep logs in as.
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL, amount numeric(12,2) NOT NULL, state text NOT NULL);
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, seen timestamptz NOT NULL DEFAULT now());
CREATE ROLE lockstep LOGIN REPLICATION PASSWORD 'compose';
GRANT SELECT ON pg_catalog.pg_replication_origin_status TO lockstep;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_replication_origin_status() TO lockstep;
GRANT SELECT ON orders, customers TO lockstep;
CREATE PUBLICATION lockstep_shop FOR TABLE ONLY orders, ONLY customers WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false);
