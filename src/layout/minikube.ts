import type { HostFiles } from "../host/host.ts";
import { ownContainerd } from "./containerd.ts";
import { ownCrio } from "./crio.ts";
import { present } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/** minikube writes it at every start, for the engine that it then runs pods by (its pkg/minikube/cruntime/cri.go). */
const crictl = "/etc/crictl.yaml";

/** Its images, for containers and for machines, have all engines installed: those say nothing. */
const refines = ["vanilla", "docker", "crio"];

/** kicbase and the ISO have the program; a machine of its own (driver none) has only what a start leaves. */
const marks = ["/usr/sbin/minikube-automount", "/kic.txt", "/var/lib/minikube/binaries"];

const wipes =
  "the end of the node's container or, where the node is a virtual machine, its next boot, which begins from the image";

export const minikube: Layout = {
  ...ownContainerd,
  name: "minikube",
  title: "minikube",
  refines,
  evidence: (host) => evidenceOf(host, "containerd", (runs) => runs !== "crio"),
  survives: "restarts of containerd, and minikube start, which changes single lines of the file",
  wipes,
  refuses(host) {
    const endpoint = endpointIn(host);
    if (endpoint === undefined || engineAt(endpoint) !== "another") return undefined;
    return {
      path: crictl,
      why: `pods run by another engine: ${endpoint}`,
      hint: "start it with containerd: minikube start --container-runtime containerd",
    };
  },
};

export const minikubeCrio: Layout = {
  ...ownCrio,
  name: "minikube-crio",
  title: "minikube with CRI-O",
  refines,
  evidence: (host) => evidenceOf(host, "crio", (runs) => runs === "crio"),
  survives: "restarts of CRI-O, and minikube start, which changes another file of that folder",
  wipes,
};

/** @param program what has to be there where nothing says which engine runs pods */
function evidenceOf(
  host: HostFiles,
  program: string,
  isMeant: (runs: "containerd" | "crio" | "another") => boolean,
): string[] {
  const found = present(host, marks);
  if (found.length === 0) return [];
  const endpoint = endpointIn(host);
  if (endpoint !== undefined) return isMeant(engineAt(endpoint)) ? [...found, `${crictl} (${endpoint})`] : [];
  const [path] = present(host, [`/usr/local/bin/${program}`, `/usr/bin/${program}`]);
  // What all its engines share tells nobody which is which.
  return path === undefined ? [] : [`${found[0]} (with ${path})`, ...found.slice(1)];
}

function endpointIn(host: HostFiles): string | undefined {
  const read = host.read(crictl);
  if (read.kind !== "file") return undefined;
  return /^runtime-endpoint:\s*["']?([^\s"']+)/m.exec(new TextDecoder().decode(read.bytes))?.[1];
}

/** By default minikube runs docker behind cri-dockerd, which knows no handlers of containerd's. */
function engineAt(endpoint: string): "containerd" | "crio" | "another" {
  if (endpoint.endsWith("/containerd.sock")) return "containerd";
  return endpoint.endsWith("/crio.sock") ? "crio" : "another";
}
