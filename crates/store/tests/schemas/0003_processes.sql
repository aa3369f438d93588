-- What a convoke with the schema 0003_processes added to that: the number of its process, which the clock has not come to.
INSERT INTO migrations VALUES (3, '0003_processes', 'c28a2903a331f6be', 1767226000);

INSERT INTO processes VALUES (1, 200000000);
