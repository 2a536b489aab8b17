CREATE SUBSCRIPTION us1 CONNECTION 'host=pg-eu dbname=shop user=subscriber password=compose' PUBLICATION shop;
