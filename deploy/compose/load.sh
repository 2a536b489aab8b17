#!/usr/bin/env bash
# load.sh ENGINE PRIMARY REPLICA: writes to the primary for ever and every few minutes changes a row on the replica itself,
# which is put right again a minute later.
set -uo pipefail
engine=$1 primary=$2 replica=$3

on() { # on HOST SQL
    case $engine in
    postgres) psql -q -h "$1" -c "$2" ;;
    mysql) mysql -h "$1" -u root shop -e "$2" ;;
    mariadb) mariadb -h "$1" -u root shop -e "$2" ;;
    esac
}

changes() { # statements of one transaction
    local order=$((RANDOM % 10000 + 1)) customer=$((RANDOM % 1000 + 1))
    echo "UPDATE orders SET amount = amount + 1, state = 'paid' WHERE id = $order; UPDATE customers SET seen = CURRENT_TIMESTAMP WHERE id = $customer;"
}

meddle() {
    while sleep 180; do
        local id=$((RANDOM % 1000 + 20000))
        on "$primary" "INSERT INTO orders VALUES ($id, 1, 10, 'kept')"
        sleep 5
        on "$replica" "UPDATE orders SET amount = 666 WHERE id = $id"
        sleep 60
        on "$replica" "UPDATE orders SET amount = 10 WHERE id = $id"
        on "$primary" "DELETE FROM orders WHERE id = $id"
    done
}

meddle &
while true; do
    on "$primary" "BEGIN; $(changes) COMMIT;" || sleep 2
    sleep 0.2
done
