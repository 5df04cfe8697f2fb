import { crio } from "./crio.ts";
import { k0sController, k0sWorker } from "./k0s.ts";
import type { Layout } from "./layout.ts";
import { microk8s } from "./microk8s.ts";
import { vanilla } from "./vanilla.ts";

export const layouts: readonly Layout[] = [vanilla, k0sController, k0sWorker, microk8s, crio];
