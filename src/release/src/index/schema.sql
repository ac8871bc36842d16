-- Made from the ledger and thrown away. Rows are written once: a trigger refuses the rest.
CREATE TABLE ledger (head TEXT NOT NULL, genesis TEXT NOT NULL, events INTEGER NOT NULL) STRICT;
CREATE TABLE events (
  id TEXT NOT NULL PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, name TEXT NOT NULL, host TEXT NOT NULL,
  version TEXT, "commit" TEXT, previous TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE generations (
  version TEXT NOT NULL PRIMARY KEY, status TEXT NOT NULL, contract TEXT NOT NULL, changes INTEGER NOT NULL, proven INTEGER NOT NULL,
  sealed_at TEXT NOT NULL, promoted_at TEXT, tag TEXT
) STRICT;
CREATE TABLE changes (
  version TEXT NOT NULL REFERENCES generations (version), id TEXT NOT NULL, type TEXT NOT NULL, title TEXT NOT NULL,
  digest TEXT NOT NULL, proven INTEGER NOT NULL, evolution TEXT, PRIMARY KEY (version, id)
) STRICT;
CREATE TABLE evolutions (
  id TEXT NOT NULL PRIMARY KEY, version TEXT NOT NULL REFERENCES generations (version), "commit" TEXT NOT NULL, contract TEXT NOT NULL,
  nonce TEXT NOT NULL, runner TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT, result TEXT, tag TEXT
) STRICT;
CREATE TABLE evolution_changes (
  evolution TEXT NOT NULL REFERENCES evolutions (id), change TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (evolution, change)
) STRICT;
CREATE TABLE evidence (
  evolution TEXT NOT NULL REFERENCES evolutions (id), name TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (evolution, name)
) STRICT;
CREATE TABLE steps (
  evolution TEXT NOT NULL REFERENCES evolutions (id), id TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL, exit INTEGER,
  duration_ms INTEGER NOT NULL, log TEXT, PRIMARY KEY (evolution, id)
) STRICT;
CREATE TABLE promotions (
  event TEXT NOT NULL PRIMARY KEY, version TEXT NOT NULL, at TEXT NOT NULL, result TEXT NOT NULL, promotion TEXT NOT NULL,
  "commit" TEXT NOT NULL, tag TEXT, stage TEXT NOT NULL
) STRICT;
CREATE TABLE gates (
  event TEXT NOT NULL REFERENCES promotions (event), gate TEXT NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL
) STRICT;
CREATE TABLE approvals (
  event TEXT NOT NULL PRIMARY KEY, version TEXT NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL, contract TEXT NOT NULL,
  "commit" TEXT NOT NULL, expires TEXT NOT NULL, gate TEXT
) STRICT;
CREATE TABLE environments (
  event TEXT NOT NULL REFERENCES events (id), environment TEXT NOT NULL, at TEXT NOT NULL, actor TEXT NOT NULL, version TEXT NOT NULL,
  "commit" TEXT, tag TEXT NOT NULL, PRIMARY KEY (event, environment)
) STRICT;
