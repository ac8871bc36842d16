"""Three tools that write to a Postgres database: tools.py PORT PSQL URL.

Each writes the id of the call that it serves into the rows that it makes; the gateway says it in `estoppel-call`.
"""

import http.server
import json
import subprocess
import sys

PORT, PSQL, URL = int(sys.argv[1]), sys.argv[2], sys.argv[3]

TOOLS = {
    "/tools/extract": """
        WITH made AS (INSERT INTO raw_orders (batch, sku, cents, call_id)
            SELECT 'b-1', sku, cents, :'call' FROM (VALUES ('apples', 300), ('pears', 250), ('plums', 125)) of_till(sku, cents)
            RETURNING batch)
        SELECT json_build_object('batch', min(batch), 'rows', count(*)) FROM made""",
    "/tools/transform": """
        ALTER TABLE daily_totals ADD COLUMN currency text;
        WITH changed AS (UPDATE raw_orders SET sku = upper(sku), call_id = :'call' WHERE batch = :'batch' RETURNING batch)
        SELECT json_build_object('batch', min(batch), 'currency', 'EUR', 'rows', count(*)) FROM changed""",
    "/tools/load": """
        WITH made AS (INSERT INTO daily_totals (batch, cents, currency, call_id)
            SELECT batch, sum(cents), :'currency', :'call' FROM raw_orders WHERE batch = :'batch' GROUP BY batch
            RETURNING cents)
        SELECT json_build_object('cents', min(cents), 'rows', count(*)) FROM made""",
}


class Tool(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked["call"] = self.headers["estoppel-call"] or ""
        variables = [word for name, value in asked.items() for word in ("-v", f"{name}={value}")]
        psql = [PSQL, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *variables, URL]
        done = subprocess.run(psql, input=TOOLS[self.path], capture_output=True, text=True)
        self.answer(500 if done.returncode else 200, done.stdout.strip() or json.dumps({"error": done.stderr}))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Tool).serve_forever()
