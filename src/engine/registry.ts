import type { Backend } from "./backend.ts";
import { containerd } from "./containerd/backend.ts";
import { crio } from "./crio/backend.ts";

export const backends: readonly Backend[] = [containerd, crio];
