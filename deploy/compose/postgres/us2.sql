CREATE SUBSCRIPTION us2 CONNECTION 'host=pg-eu dbname=shop user=subscriber password=compose' PUBLICATION shop;
