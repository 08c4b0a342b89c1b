-- A table and an index in memory; rows are inserted, joined, changed and deleted.
CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT, value REAL, note TEXT);
CREATE INDEX names ON rows (name);
WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 150000)
INSERT INTO rows SELECT n, 'name ' || (n * 7919 % 5000), n / 3.0, hex(zeroblob(n % 60)) FROM count;
UPDATE rows SET note = note || name WHERE id % 3 = 0;
SELECT count(*), sum(length(note)) FROM rows;
SELECT count(*) FROM (SELECT name, group_concat(note) FROM rows GROUP BY name ORDER BY max(value));
SELECT sum(length(a.note)) FROM rows AS a JOIN rows AS b ON b.id = a.id * 2 % 150000;
DELETE FROM rows WHERE id % 5 < 3;
SELECT count(*), sum(length(note)) FROM rows;
