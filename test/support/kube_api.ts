import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { tmpdir } from "node:os";

interface Taint {
  readonly key: string;
  readonly effect: string;
}

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

/** What happens to a request, instead of its being answered. */
export type Trouble =
  | "none"
  | "silent"
  | "401"
  | "403"
  | "404"
  | "409"
  | "429"
  | "500"
  | "cut"
  | "html"
  | "endless"
  | "cut after patch";

/** A Kubernetes API server with one node, which answers as the real one does, and its service account. */
export class KubeApi {
  readonly folder = mkdtempSync(`${tmpdir()}/shimctl-kube-`);
  readonly name = "node-1";
  labels: Record<string, string> | undefined = { "kubernetes.io/hostname": "node-1" };
  taints: Taint[] = [];
  version = 100;
  /** Seconds, in answers that ask for patience. */
  retryAfter: string | undefined;
  token = "secret-token-1";
  /** By the number of the request, from 1. */
  trouble: (request: number, method: string) => Trouble = () => "none";
  /** Between a read and whatever comes next: another writer. */
  afterRead: () => void = () => undefined;
  /** Before a patch is applied. */
  onPatch: (operations: readonly Operation[]) => void = () => undefined;
  /** Each request that came, as `GET` or as the paths of its patch. */
  readonly requests: string[] = [];
  readonly authorizations = new Set<string>();
  #server: Server | undefined;
  #port = 0;
  readonly #host: string;

  private constructor(host: string) {
    this.#host = host;
  }

  static async start(names = "IP:127.0.0.1", host = "127.0.0.1"): Promise<KubeApi> {
    const api = new KubeApi(host);
    const made = spawnSync(
      "openssl",
      [
        ...[
          "req",
          "-x509",
          "-newkey",
          "ec",
          "-pkeyopt",
          "ec_paramgen_curve:prime256v1",
          "-nodes",
          "-days",
          "2",
        ],
        ...["-subj", "/CN=kube-api", "-addext", `subjectAltName=${names}`],
        ...["-keyout", `${api.folder}/key`, "-out", `${api.folder}/ca.crt`],
      ],
      { encoding: "utf8" },
    );
    if (made.status !== 0) throw new Error(made.stderr);
    api.renewToken(api.token);
    const [key, cert] = [readFileSync(`${api.folder}/key`), readFileSync(`${api.folder}/ca.crt`)];
    const server = createServer({ key, cert }, (request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        const body = Buffer.concat(parts).toString();
        const answer = api.#answer(request.method ?? "", request.url ?? "", request.headers, body);
        if (answer === "silent") return;
        if (answer === "cut") {
          request.socket.destroy();
          return;
        }
        const [status, value, type = "application/json"] = answer;
        const text = typeof value === "string" ? value : JSON.stringify(value);
        const { retryAfter } = api;
        const patience = status === 429 && retryAfter !== undefined ? { "retry-after": retryAfter } : {};
        response.writeHead(status, { "content-type": type, ...patience }).end(text);
      });
    });
    api.#server = server;
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    const address = server.address();
    api.#port = typeof address === "object" && address !== null ? address.port : 0;
    return api;
  }

  get env(): Record<string, string> {
    return { KUBERNETES_SERVICE_HOST: this.#host, KUBERNETES_SERVICE_PORT: String(this.#port) };
  }

  /** Another writer, by whatever way. */
  change(labels: Record<string, string | undefined>): void {
    const next = { ...this.labels, ...labels };
    this.labels = Object.fromEntries(
      Object.entries(next).flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const])),
    );
    this.version++;
  }

  renewToken(token: string): void {
    this.token = token;
    writeFileSync(`${this.folder}/token`, `${token}\n`);
  }

  get patches(): number {
    return this.requests.filter((request) => request !== "GET").length;
  }

  #answer(
    method: string,
    url: string,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    body: string,
  ): "silent" | "cut" | [number, unknown, string?] {
    const operations = method === "PATCH" ? (JSON.parse(body) as Operation[]) : [];
    this.requests.push(
      method === "PATCH" ? operations.map(({ op, path }) => `${op} ${path}`).join(", ") : method,
    );
    this.authorizations.add(String(headers["authorization"]));
    const trouble = this.trouble(this.requests.length, method);
    if (trouble === "silent" || trouble === "cut") return trouble;
    if (trouble === "endless") return [200, " ".repeat(5 << 20)];
    if (trouble === "html") return [200, "<html>log in</html>", "text/html"];
    if (trouble === "401" || headers["authorization"] !== `Bearer ${this.token}`)
      return status(401, "Unauthorized", "Unauthorized");
    if (trouble === "403")
      return status(403, "Forbidden", `User "x" with ${headers["authorization"]} cannot ${method} nodes`);
    if (trouble === "404" || url !== `/api/v1/nodes/${this.name}`)
      return status(404, "NotFound", `nodes "${url.split("/").at(-1)}" not found`);
    if (trouble === "409")
      return status(
        409,
        "Conflict",
        `Operation cannot be fulfilled on nodes "${this.name}": the object has been modified`,
      );
    if (trouble === "429") return status(429, "TooManyRequests", "too many requests");
    if (trouble === "500") return status(500, "InternalError", "etcdserver: leader changed");
    if (method === "GET") {
      const read = this.#node();
      this.afterRead();
      return [200, read];
    }
    if (headers["content-type"] !== "application/json-patch+json")
      return status(415, "UnsupportedMediaType", "the body of the request was in an unknown format");
    this.onPatch(operations);
    try {
      this.#apply(operations);
    } catch (error) {
      return status(422, "Invalid", String(error));
    }
    return trouble === "cut after patch" ? "cut" : [200, this.#node()];
  }

  #node(): unknown {
    return structuredClone({
      kind: "Node",
      apiVersion: "v1",
      metadata: {
        name: this.name,
        resourceVersion: String(this.version),
        ...(this.labels === undefined ? {} : { labels: this.labels }),
      },
      spec: this.taints.length === 0 ? {} : { taints: this.taints },
    });
  }

  /** RFC 6902 on what a node has: all of it or nothing. */
  #apply(operations: readonly Operation[]): void {
    let labels = this.labels === undefined ? undefined : { ...this.labels };
    const taints = [...this.taints];
    for (const { op, path, value } of operations) {
      const [, root, part, name = ""] = path.split("/");
      const key = name.replaceAll("~1", "/").replaceAll("~0", "~");
      if (op === "test" && part === "resourceVersion") {
        if (value !== String(this.version)) throw new Error("testing value /metadata/resourceVersion failed");
      } else if (op === "test" && part === "taints") {
        if (!Bun.deepEquals(value, taints[Number(name)])) throw new Error("testing value failed");
      } else if (root === "metadata" && part === "labels" && name === "")
        labels = value as Record<string, string>;
      else if (root === "metadata" && part === "labels") {
        if (labels === undefined) throw new Error("doc is missing path");
        if (op === "remove" && !Object.hasOwn(labels, key))
          throw new Error("unable to remove nonexistent key");
        if (op === "remove") delete labels[key];
        else labels[key] = String(value);
      } else if (op === "remove" && part === "taints" && taints[Number(name)] !== undefined)
        taints.splice(Number(name), 1);
      else throw new Error(`cannot ${op} ${path}`);
    }
    this.labels = labels;
    this.taints = taints;
    this.version++;
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections();
    await new Promise<void>((resolve) => {
      if (this.#server === undefined) resolve();
      else this.#server.close(() => resolve());
    });
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function status(code: number, reason: string, message: string): [number, unknown] {
  return [code, { kind: "Status", apiVersion: "v1", status: "Failure", reason, message, code }];
}
