import * as z from "zod/mini";

// Otherwise zod writes a function for every schema and lets the runtime compile it: for the few values that one
// command checks, that takes longer than all the checks together. Imported before the first schema is made.
z.config({ jitless: true });
