"""`python -m bench.records` writes the schemas in bench/schemas that are made from records."""

from bench.records.json_schema import FILES, text

if __name__ == "__main__":
    for file, record in FILES.items():
        file.write_text(text(record))
        print(f"wrote {file}")
