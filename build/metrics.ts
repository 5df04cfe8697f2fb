/** `bun build/metrics.ts`: the table in `docs/metrics.md`, from the metrics that there are. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { withTable } from "./metrics_table.ts";
import { repo } from "./source.ts";

const page = join(repo, "docs", "metrics.md");
writeFileSync(page, withTable(readFileSync(page, "utf8")));
