import type { Backend } from "./backend.ts";
import { containerd } from "./containerd/backend.ts";

export const backends: readonly Backend[] = [containerd];
