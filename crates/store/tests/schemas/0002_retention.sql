-- What a convoke with the schema 0002_retention added to that: a dead letter that was put back, one that was delivered
-- after all, and a meeting that was held.
INSERT INTO migrations VALUES (2, '0002_retention', '19519857761ec841', 1767225800);

UPDATE dead_letters SET fate = 1, fate_at = 1767225900000, replays = 1 WHERE id = 2;
UPDATE dead_letters SET fate = 2, fate_at = 1767225900000, replays = 1 WHERE id = 3;
INSERT INTO outbox VALUES
    (5, x'00000000000000000000000000000066', 1767225600000, x'0000000000000000000000000000000b', x'00000000000000000000000000000014', x'00000000000000000000000000000002', 'https://bot.example/?web=1', x'00000000000000000000000000000004', x'00000000000000000000000000000005', '{"dead":1}', NULL, NULL, 0, 0, 2);
UPDATE meetings SET held = 1767232800000 WHERE id = x'00000000000000000000000000000028';
