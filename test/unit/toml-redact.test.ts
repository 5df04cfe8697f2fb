import { expect, test } from "bun:test";
import { setBlock, setRootLine } from "../../src/toml/edit.ts";
import { redactLine, redactText } from "../../src/toml/redact.ts";

const lines: [line: string, shown: string][] = [
  ['password = "hunter2"', 'password = "<redacted>"'],
  ["password = hunter2", 'password = "<redacted>"'],
  ['3s"', '3s"'],
  ["version = 2 3", "version = 2 3"],
  ['runtime_type = "io.containerd.kata.v2', 'runtime_type = "io.containerd.kata.v2'],
  ['  unknown = "value" junk', '  unknown = "<redacted>"'],
  ['  "abc", "def"', '  "<redacted>", "<redacted>"'],
  ["# plain comment", "# plain comment"],
  ["# password = hunter2", "# password = <redacted>"],
  ['[plugins."io.containerd.grpc.v1.cri".containerd', '[plugins."io.containerd.grpc.v1.cri".containerd'],
  ["eyJhbGciOiJIUzI1NiJ9", "<redacted>"],
  ["c2VjcmV0c2VjcmV0AAAA==", "<redacted>=="],
  ['root = "https://u:p@h/x"', 'root = "https://<redacted>@h/x"'],
  ['x = { password = "a" }', 'x = { password = "<redacted>"'],
  ["max = 16384", "max = 16384"],
  ["", ""],
];
for (const [line, shown] of lines) {
  test(`a line of a broken file is shown as ${shown}`, () => {
    expect(redactLine(line)).toBe(shown);
  });
}

const texts: [what: string, text: string, shown: string][] = [
  [
    "harmless values",
    'a = "b"\ncert_file = "/x"\nkey_model = "node"\n',
    'a = "b"\ncert_file = "/x"\nkey_model = "node"\n',
  ],
  ["a secret key", 'password = "x" # why\n', 'password = "<redacted>" # <redacted>\n'],
  ["a secret over lines", "token = [\n 'x', # y\n]\nb = 1\n", 'token = "<redacted>"\n\n\nb = 1\n'],
  [
    "an auth table",
    "[a.auth]\nb = 'x'\nc = true\n[d]\ne = 'f'\n",
    "[a.auth]\nb = \"<redacted>\"\nc = true\n[d]\ne = 'f'\n",
  ],
  ["an entry of an inline table", "a = { user = 'x', b = 1 }\n", 'a = { user = "<redacted>", b = 1 }\n'],
  [
    "credentials in a URL",
    "a = ['https://u:p@h:1/x', 'https://h:1/x@y']\n",
    "a = ['https://<redacted>@h:1/x', 'https://<redacted>@y']\n",
  ],
  [
    "an image by digest",
    "sandbox_image = 'r.example:5000/pause@sha256:ab'\n",
    "sandbox_image = 'r.example:5000/pause@sha256:ab'\n",
  ],
  [
    "the environment",
    "env = ['API_TOKEN=x', 'PATH=/bin']\n",
    "env = ['API_TOKEN=<redacted>', 'PATH=/bin']\n",
  ],
];
for (const [what, text, shown] of texts) {
  test(`a whole file is shown without secrets: ${what}`, () => {
    expect(redactText(text)).toBe(shown);
  });
}

test("our markers stay readable behind a table of secrets", () => {
  const text = setBlock("[a.auth]\nb = 'x'\n", { owner: "default", body: "[c]\nd = 1\n" });
  expect(redactText(text)).toBe(text.replace("'x'", '"<redacted>"'));
});

test("our shared lines stay readable", () => {
  const text = setRootLine("", "imports", '["/x"]', "import");
  expect(redactText(text)).toBe(text);
});

test("a file that cannot be parsed is redacted line by line and keeps its line ends", () => {
  expect(redactText('[a.auth]\r\nb = "x"\n3s"\r\n')).toBe('[a.auth]\r\nb = "<redacted>"\n3s"\r\n');
});

test("a hostile line without end is redacted before the test's own time-out", () => {
  // Anything but linear work on these would take minutes.
  const valid = redactText(`a = "${"x".repeat(1_000_000)}"\n# ${"y://a:".repeat(20_000)}\n`);
  const broken = redactText(`${"word".repeat(250_000)} "\n`);
  expect([valid.split("\n").length, broken.split("\n").length]).toEqual([3, 2]);
});
