import { crio } from "./crio.ts";
import type { Layout } from "./layout.ts";
import { vanilla } from "./vanilla.ts";

export const layouts: readonly Layout[] = [vanilla, crio];
