import { aks } from "./aks.ts";
import { bottlerocket } from "./bottlerocket.ts";
import { crio } from "./crio.ts";
import { docker } from "./docker.ts";
import { eks } from "./eks.ts";
import { flatcar } from "./flatcar.ts";
import { gke } from "./gke.ts";
import { k0sController, k0sWorker } from "./k0s.ts";
import { k3sAgent, k3sServer } from "./k3s.ts";
import { kind } from "./kind.ts";
import type { Layout } from "./layout.ts";
import { microk8s } from "./microk8s.ts";
import { minikube, minikubeCrio } from "./minikube.ts";
import { openshift } from "./openshift.ts";
import { rke2Agent, rke2Server } from "./rke2.ts";
import { talos } from "./talos.ts";
import { vanilla } from "./vanilla.ts";

/** The most general of an engine first: it is meant where only the command line speaks for that engine. */
export const layouts: readonly Layout[] = [
  vanilla,
  docker,
  kind,
  minikube,
  eks,
  gke,
  aks,
  flatcar,
  talos,
  bottlerocket,
  k3sServer,
  k3sAgent,
  rke2Server,
  rke2Agent,
  k0sController,
  k0sWorker,
  microk8s,
  crio,
  minikubeCrio,
  openshift,
];
