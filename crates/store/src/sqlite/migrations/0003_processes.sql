-- What numbers the processes of this node: that of the one that started last.
CREATE TABLE processes (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    number   INTEGER NOT NULL
) STRICT;
