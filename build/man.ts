import { writeFileSync } from "node:fs";
import { manPage } from "../src/cli/man.ts";

/** Where the manual page is. */
export const manPath = `${import.meta.dirname}/../docs/shimctl.1`;

if (import.meta.main) writeFileSync(manPath, manPage());
