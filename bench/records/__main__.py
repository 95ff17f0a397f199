"""`python -m bench.records` writes schemas/results.schema.json."""

from bench.records.json_schema import FILE, text

if __name__ == "__main__":
    FILE.write_text(text())
    print(f"wrote {FILE}")
