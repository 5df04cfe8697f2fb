import "../../jitless.ts";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import * as z from "zod/mini";

/** What is used of a Kubernetes node; all else in the answer is passed over. */
const NodeObject = z.object({
  metadata: z.object({
    name: z.string(),
    resourceVersion: z.string().check(z.minLength(1)),
    labels: z.optional(z.record(z.string(), z.string())),
  }),
  spec: z.optional(
    z.object({ taints: z.optional(z.array(z.looseObject({ key: z.string(), effect: z.string() }))) }),
  ),
});

export type NodeObject = z.infer<typeof NodeObject>;

/** What the API says of a request that failed. Never holds credentials. */
const Status = z.object({
  kind: z.literal("Status"),
  reason: z.optional(z.string()),
  message: z.optional(z.string()),
});

/** An operation of a JSON Patch (RFC 6902). */
export type PatchOperation =
  | { readonly op: "test" | "add" | "replace"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string };

/** Why a request did not do what it should; `why` is for people. */
export interface ApiFailure {
  readonly kind: /** The object is another one by now, or a test of the patch failed: read it again. */
    | "conflict"
    | "not found"
    | "unauthorized"
    | "forbidden"
    /** Overloaded or starting: it says itself that it may be asked again. */
    | "busy"
    /** No answer: whether a patch was applied is not known. */
    | "unreachable"
    /** An answer that another try would not change. */
    | "refused"
    | "interrupted";
  readonly why: string;
  /** How long the server wants to be left alone. */
  readonly retryAfterMs?: number;
}

export type ApiAnswer = { readonly kind: "node"; readonly node: NodeObject } | ApiFailure;

/** The requests of the one kind of object that we touch. */
export interface NodeApi {
  get(name: string, signal: AbortSignal): Promise<ApiAnswer>;
  patch(name: string, operations: readonly PatchOperation[], signal: AbortSignal): Promise<ApiAnswer>;
}

/** Where the kubelet puts a pod's own token and the cluster's authority: in our own root, not in the node's. */
export const serviceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

/** No request takes longer; the server ends its own after 60 s. */
const requestMs = 10_000;
/** etcd takes no object of more than 1.5 MiB. */
const answerBytes = 4 << 20;
const tooLong = "its answer is too long";

/**
 * The API server of the cluster that this pod runs in; `undefined` outside a pod. Nothing is asked yet.
 *
 * Token and authority are read anew for each request, as the kubelet replaces a token before it expires. The
 * server's certificate and name are verified; redirects are not followed, and no proxy is used.
 */
export function openNodeApi(
  env: Readonly<Record<string, string | undefined>>,
  folder = serviceAccountFolder,
): NodeApi | undefined {
  const host = env["KUBERNETES_SERVICE_HOST"];
  const port = env["KUBERNETES_SERVICE_PORT_HTTPS"] || env["KUBERNETES_SERVICE_PORT"] || "443";
  if (!host) return undefined;
  const send = (method: "GET" | "PATCH", name: string, body: string | undefined, signal: AbortSignal) =>
    exchange({ host: host.replace(/^\[|\]$/g, ""), port: Number(port), folder, method, name, body, signal });
  return {
    get: (name, signal) => send("GET", name, undefined, signal),
    patch: (name, operations, signal) => send("PATCH", name, JSON.stringify(operations), signal),
  };
}

interface Exchange {
  readonly host: string;
  readonly port: number;
  readonly folder: string;
  readonly method: "GET" | "PATCH";
  readonly name: string;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
}

async function exchange(asked: Exchange): Promise<ApiAnswer> {
  const { folder, name, method, signal } = asked;
  const stopped: ApiFailure = { kind: "interrupted", why: "it was stopped" };
  if (signal.aborted) return stopped;
  const account = accountIn(folder);
  if ("kind" in account) return account;
  let answer: Answer | Error;
  try {
    answer = await answerTo(asked, account);
  } catch (error) {
    // Nothing was sent: the authority or the address is none.
    const why = error instanceof Error ? error.message : String(error);
    return { kind: "refused", why: safe(why, account.token) };
  }
  if (signal.aborted) return stopped;
  if (answer instanceof Error) return noAnswer(answer, account.token);
  return judge(answer.message, answer.text, name, method, account.token);
}

interface Account {
  readonly token: string;
  readonly ca: string;
}

function accountIn(folder: string): Account | ApiFailure {
  try {
    const token = readFileSync(`${folder}/token`, "utf8").trim();
    const ca = readFileSync(`${folder}/ca.crt`, "utf8");
    if (!/^[\x21-\x7e]+$/.test(token)) return { kind: "unauthorized", why: `${folder}/token holds no token` };
    // Without one, the authorities of the public would be trusted.
    if (!/^-----BEGIN CERTIFICATE-----/m.test(ca))
      return { kind: "refused", why: `${folder}/ca.crt holds no certificate` };
    return { token, ca };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    return { kind: "unauthorized", why: `no service account is mounted at ${folder} (${code})` };
  }
}

interface Answer {
  readonly message: IncomingMessage;
  readonly text: string;
}

function answerTo(
  { host, port, method, name, body, signal }: Exchange,
  { token, ca }: Account,
): Promise<Answer | Error> {
  return new Promise((resolve) => {
    const onAbort = () => stop(new Error("stopped"));
    const end = (result: Answer | Error) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      resolve(result);
    };
    const sent = request(
      {
        host,
        port,
        method,
        path: `/api/v1/nodes/${encodeURIComponent(name)}`,
        ca,
        rejectUnauthorized: true,
        // One run asks a few times; an idle connection would only keep the process from ending.
        agent: false,
        headers: headersOf(token, body),
      },
      (message) => {
        const parts: Buffer[] = [];
        let length = 0;
        message.on("data", (part: Buffer) => {
          length += part.length;
          if (length > answerBytes) stop(new Error(tooLong));
          else parts.push(part);
        });
        message.on("end", () => end({ message, text: Buffer.concat(parts).toString("utf8") }));
        message.on("aborted", () => stop(new Error("the connection was cut")));
        message.on("error", (error) => stop(error));
      },
    );
    const stop = (error: Error) => {
      end(error);
      sent.destroy();
    };
    const timer = setTimeout(() => stop(new Error(`no answer within ${requestMs / 1000} s`)), requestMs);
    signal.addEventListener("abort", onAbort);
    sent.on("error", stop);
    sent.end(body);
  });
}

function headersOf(token: string, body: string | undefined): Record<string, string> {
  return {
    accept: "application/json",
    authorization: `Bearer ${token}`,
    "user-agent": "shimctl",
    connection: "close",
    ...(body === undefined
      ? {}
      : {
          "content-type": "application/json-patch+json",
          "content-length": String(Buffer.byteLength(body)),
        }),
  };
}

/**
 * A certificate that does not verify now will not do so in a few seconds either, nor will an answer be shorter. A
 * connection that was cut speaks of TLS as well, and may come to be.
 */
function noAnswer(error: Error, token: string): ApiFailure {
  if (error.message === tooLong) return { kind: "refused", why: tooLong };
  const code = "code" in error ? String(error.code) : "";
  const why = safe(error.message || code, token);
  return /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/i.test(`${code} ${error.message}`)
    ? { kind: "refused", why: `its certificate cannot be verified: ${why}` }
    : { kind: "unreachable", why };
}

function judge(
  { statusCode = 0, headers }: IncomingMessage,
  text: string,
  name: string,
  method: string,
  token: string,
): ApiAnswer {
  let value: unknown;
  if (/^application\/json\b/.test(headers["content-type"] ?? "")) {
    try {
      value = JSON.parse(text);
    } catch {
      value = undefined;
    }
  }
  if (statusCode === 200) {
    const node = NodeObject.safeParse(value);
    if (node.success && node.data.metadata.name === name) return { kind: "node", node: node.data };
    return { kind: "refused", why: "its answer is no Kubernetes node" };
  }
  const status = Status.safeParse(value);
  const said = status.success ? (status.data.message ?? status.data.reason ?? "") : "";
  const why = `it answered ${statusCode}${said === "" ? "" : `: ${safe(said, token)}`}`;
  const after = /^\d{1,4}$/.exec(headers["retry-after"] ?? "")?.[0];
  const retry = after === undefined ? {} : { retryAfterMs: Number(after) * 1000 };
  switch (statusCode) {
    case 401:
      return { kind: "unauthorized", why };
    case 403:
      return { kind: "forbidden", why: `${method === "GET" ? "get" : "patch"} on nodes was refused; ${why}` };
    case 404:
      // A proxy in between may say 404 as well, and not of a node.
      return status.success ? { kind: "not found", why } : { kind: "refused", why };
    case 409:
    case 422:
      return { kind: "conflict", why };
    case 429:
      return { kind: "busy", why, ...retry };
    default:
      return statusCode >= 500 ? { kind: "busy", why, ...retry } : { kind: "refused", why };
  }
}

/** What another program says, on one line, short, and without our token. */
function safe(text: string, token: string): string {
  const clean = text.replaceAll(token, "(token)").replace(/\p{Cc}+/gu, " ");
  return clean.length > 240 ? `${clean.slice(0, 240)}…` : clean;
}
