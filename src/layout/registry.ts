import { crio } from "./crio.ts";
import { k3sAgent, k3sServer } from "./k3s.ts";
import type { Layout } from "./layout.ts";
import { rke2Agent, rke2Server } from "./rke2.ts";
import { vanilla } from "./vanilla.ts";

export const layouts: readonly Layout[] = [vanilla, crio, k3sServer, k3sAgent, rke2Server, rke2Agent];
