/** Prints what the runtime's Unicode data answers, in English and in other languages: see slim.test.ts. */
const languages = ["en", "en-GB", "de", "ja", "tr", "th", "ar", "zh-Hans-CN", "xx"];
const date = new Date(0);

function inLanguage(language: string): readonly unknown[] {
  const answers = [
    () => date.toLocaleString(language, { timeZone: "Asia/Tokyo", dateStyle: "full", timeStyle: "full" }),
    () => (1234567.891).toLocaleString(language, { style: "currency", currency: "EUR" }),
    () => (5).toLocaleString(language, { style: "unit", unit: "kilometer" }),
    () => ["z", "ä", "a", "ö"].sort(new Intl.Collator(language).compare),
    () => [...new Intl.Segmenter(language, { granularity: "word" }).segment("Hello, world.")].length,
    () => [...new Intl.Segmenter(language, { granularity: "sentence" }).segment("One. Two.")].length,
    () => "iıIİ".toLocaleUpperCase(language),
    () => new Intl.RelativeTimeFormat(language).format(-3, "day"),
    () => new Intl.ListFormat(language).format(["a", "b", "c"]),
    () => new Intl.PluralRules(language).select(2),
    () => new Intl.DisplayNames(language, { type: "region" }).of("DE"),
  ];
  return answers.map((answer) => answer());
}

/** Which there is a dictionary for in the whole data; without one, each run of letters is one word. */
const withoutSpaces = "สวัสดีครับ 漢字テスト မင်္ဂလာပါ ជំរាបសួរ";

const everywhere = [
  Intl.DateTimeFormat.supportedLocalesOf("en"),
  new Intl.DateTimeFormat("en").resolvedOptions().locale,
  ["NFC", "NFD", "NFKC", "NFKD"].map((form) => "ﬁÅ①".normalize(form)),
  new URL("http://bücher.example/ä").href,
  ["gbk", "shift_jis", "euc-kr", "big5", "windows-1252"].map((each) =>
    new TextDecoder(each as Bun.Encoding).decode(new Uint8Array([0xb0, 0xa1])),
  ),
  /^\p{Script=Han}+$/u.test("漢字"),
  /^\p{RGI_Emoji}$/v.test("👍"),
  "äb".localeCompare("az"),
  Intl.supportedValuesOf("currency").length,
  Intl.supportedValuesOf("timeZone").length,
];

const words = [...new Intl.Segmenter("th", { granularity: "word" }).segment(withoutSpaces)].map(
  (each) => each.segment,
);
const byLanguage = Object.fromEntries(languages.map((language) => [language, inLanguage(language)]));
console.log(JSON.stringify({ everywhere, byLanguage, whole: words.join("") === withoutSpaces }));
