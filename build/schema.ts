import { writeFileSync } from "node:fs";
import * as z from "zod/mini";
import { HandlerFile } from "../src/handler/file.ts";

/** The JSON Schema of handler files, for editors and pipelines: the model's own shape, not a twin of it. */
export function handlerFileSchema(): Record<string, unknown> {
  const { $schema, ...shape } = z.toJSONSchema(HandlerFile, { io: "input" });
  return {
    $schema,
    title: "shimctl handler file, format 1",
    description: "What `shimctl install -f`, `apply -f` and `diff` read, as TOML.",
    ...shape,
  };
}

/** Where it is shipped. */
export const schemaPath = `${import.meta.dirname}/../docs/handler-file.schema.json`;

export function renderedSchema(): string {
  return `${JSON.stringify(handlerFileSchema(), undefined, 2)}\n`;
}

if (import.meta.main) writeFileSync(schemaPath, renderedSchema());
