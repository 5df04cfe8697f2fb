import { encodeToml } from "../../toml/decode.ts";
import { renderString } from "../../toml/render.ts";
import { scan } from "../../toml/scan.ts";
import type { Staged } from "../backend.ts";
import type { Loaded } from "./load.ts";

/** Copies of all loaded files: the root imports the others by their new names, in the order they were loaded. */
export function stage(loaded: readonly Loaded[], folder: string): Staged {
  const nameAt = (index: number) => `${folder}/${String(index).padStart(3, "0")}.toml`;
  const others = loaded.slice(1).map((_, index) => renderString(nameAt(index + 1)));
  const files = loaded.map((file, index) => ({
    path: nameAt(index),
    bytes: encodeToml(withImports(file.text, index === 0 ? `[${others.join(", ")}]` : "[]")),
  }));
  return { files, args: ["--config", nameAt(0), "config", "dump"] };
}

function withImports(text: string, value: string): string {
  const item = scan(text).items.find(
    (candidate) =>
      candidate.kind === "key-value" && candidate.table.length === 0 && candidate.key.join() === "imports",
  );
  if (item?.kind !== "key-value") return text;
  return text.slice(0, item.value.span.start) + value + text.slice(item.value.span.end);
}
