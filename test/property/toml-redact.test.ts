import { expect, test } from "bun:test";
import fc from "fast-check";
import { ShimctlError } from "../../src/error.ts";
import { setBlock } from "../../src/toml/edit.ts";
import { parseToml } from "../../src/toml/parse.ts";
import { redactText } from "../../src/toml/redact.ts";
import { generate } from "../fixtures/toml/documents.ts";
import { randomOf } from "../support/random.ts";

const canary = "h7-Nter2";

/** Every place where a secret has been seen in a containerd or CRI-O file. `$` is the secret. */
const hidingPlaces = [
  `[plugins."io.containerd.cri.v1.images".registry.configs."r.example:5000".auth]\nusername = "$"\npassword = '$'\nx = "$"`,
  `[plugins."io.containerd.cri.v1.images".registry.headers]\nAuthorization = ["Bearer $", "$"]\nX-Other = [\n  "$", # $\n  "$"\n] # $`,
  `[host."https://r.example".header]\nx-custom = "$"`,
  `[h1]\npassword = """\nfirst $\n$\n"""`,
  `[h2]\nidentitytoken = '''$\n$''' # was $`,
  `[h3]\nconfigs = { "r.example" = { auth = { username = "u", password = "$" } } }`,
  `[h4]\n# password = "$"\n# token: $\nendpoint = "http://user:$@r.example/v2"`,
  `[h5]\n# mirror https://user:$@r.example was here\nenv = ["HTTPS_PROXY=http://u:$@proxy:3128", "API_TOKEN=$"]`,
  `[h6]\n# [plugins.x.registry.configs.y.auth]\n#   x = "$"\nk = 1`,
  `[h7]\nendpoint = "https://user:$\\u0040r.example"`,
  `[h8]\nendpoint = """https://user:\\\n  $@r.example"""`,
  `[h9."https://u:$@r.example"]\nk = 1`,
  `[h10]\nauth.password = "$"\ntls.key = "$"`,
  `[[h11.auth]]\nx = ["$"]`,
  `[h12]\nendpoint = ["https://a.example", 'https://u:p/$@r.example']`,
];

test("a secret never survives redactText, wherever it stands", () => {
  everyPlaced((text) => expect(redactText(text)).not.toContain(canary));
});

test("a redacted text has as many lines as the text", () => {
  everyPlaced((text) => expect(redactText(text).split("\n").length).toBe(text.split("\n").length));
});

test("a block of ours looks the same in a redacted text", () => {
  everyPlaced((text) => {
    const body = '[zz]\nruntime_type = "io.containerd.kata.v2"\n';
    expect(redactText(setBlock(text, { owner: "default", body }))).toEndWith(
      redactText(setBlock(text, { owner: "default", body })).slice(-40),
    );
    expect(
      redactText(setBlock(text, { owner: "default", body })).startsWith(redactText(text).trimEnd()),
    ).toBe(true);
  });
});

test("a secret never survives redactText or an excerpt when the file is damaged at any line", () => {
  everyPlaced((text, next) => {
    const lines = text.split("\n");
    const at = Math.floor(next() * (lines.length + 1));
    const damage =
      ['3s"', "=", "[", "x = ", '"""', "]", 'y = "', "version = 2 3"][Math.floor(next() * 8)] ?? "";
    const broken = [...lines.slice(0, at), damage, ...lines.slice(at)].join("\n");
    if (isValid(broken)) return;
    expect(redactText(broken)).not.toContain(canary);
    expect(excerptOf(broken)).not.toContain(canary);
  });
});

test("a secret never survives an excerpt when the file is cut off anywhere", () => {
  everyPlaced((text, next) => {
    const broken = text.slice(0, Math.floor(next() * text.length));
    if (!isValid(broken)) expect(redactText(broken) + excerptOf(broken)).not.toContain(canary);
  });
});

function everyPlaced(check: (text: string, next: () => number) => void): void {
  fc.assert(
    fc.property(fc.nat(0x7fffffff), fc.integer({ min: 0, max: hidingPlaces.length - 1 }), (seed, place) => {
      const next = randomOf(seed);
      const lead = generate(seed, "realistic").replaceAll("\r", "");
      const separator = lead === "" || lead.endsWith("\n") ? "" : "\n";
      const tail = next() < 0.5 ? "\n[after]\nk = 1\n" : "\n";
      check(lead + separator + (hidingPlaces[place] ?? "").replaceAll("$", canary) + tail, next);
    }),
    { numRuns: 1500, endOnFailure: true },
  );
}

function isValid(text: string): boolean {
  return excerptOf(text) === "";
}

function excerptOf(text: string): string {
  try {
    parseToml(text, "/x");
    return "";
  } catch (error) {
    if (!(error instanceof ShimctlError)) throw error;
    return `${error.message}\n${error.facts.excerpt}\n${String(error.cause)}`;
  }
}
