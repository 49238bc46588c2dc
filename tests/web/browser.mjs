// Chromium for tests, driven by lines of JSON: a request `{"id", "do", ...}` on standard input, its answer `{"id", "result"}` or `{"id", "error"}` on
// standard output. `../web/browser.py` is the other end. Requests are answered one after the other.

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// The packages are in a cache, not beside this file.
const packages = createRequire(`${process.argv[2]}/`);
const { chromium } = packages("playwright-core");
const { default: sparticuz } = await import(packages.resolve("@sparticuz/chromium"));
const axe = await readFile(packages.resolve("axe-core/axe.min.js"), "utf8");

const MILLISECONDS = 30_000; // until an element is there, or a page is loaded

// The package's own arguments are for small machines of others: one process for all, and no rules between origins. Here these rules are tested.
const browser = await chromium.launch({
  executablePath: await sparticuz.executablePath(),
  args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
  headless: true,
});
const pages = new Map();

/** A page with a profile of its own, and what went wrong in it so far. */
async function open({ page, width, height, theme, sharpness }) {
  const context = await browser.newContext({
    viewport: { width, height },
    deviceScaleFactor: sharpness, // pixels of a picture for each of the page
    colorScheme: theme,
    reducedMotion: "reduce", // nothing is looked at half way
    timezoneId: "Europe/Berlin",
    locale: "en-GB",
    permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(MILLISECONDS);
  const tab = await context.newPage();
  const wrong = [];
  const forgiven = []; // beginnings of errors
  tab.on("pageerror", (error) => wrong.push(`error: ${error.stack ?? error}`));
  tab.on("console", (message) => {
    if (message.type() !== "error" || forgiven.some((one) => message.text().startsWith(one))) return;
    wrong.push(`console: ${message.text()}`);
  });
  await tab.exposeFunction("reportViolation", (text) => wrong.push(`policy: ${text}`));
  await tab.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      globalThis.reportViolation(`${event.violatedDirective} refuses ${event.blockedURI}`);
    });
  });
  tab.on("dialog", (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  pages.set(page, { tab, wrong, forgiven });
}

/** Of the page and of each frame in it. */
async function findings({ tab }) {
  return (await Promise.all(tab.frames().map(findingsIn))).flat();
}

async function findingsIn(frame) {
  if (!(await frame.evaluate("'axe' in globalThis"))) await frame.evaluate(axe);
  return frame.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { iframes: false });
    return violations.map((one) => ({
      rule: one.id,
      help: one.help,
      where: one.nodes.map((node) => `${node.target.join(" ")}: ${node.failureSummary}`),
    }));
  });
}

async function downloaded({ tab }, { at }) {
  const [download] = await Promise.all([tab.waitForEvent("download"), tab.locator(at).click()]);
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), "utf8") };
}

/** A picture that is small: of as many pixels, a PNG takes three times the space. */
async function photograph({ tab }, { path, quality }) {
  const session = await tab.context().newCDPSession(tab);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality });
  await writeFile(path, data, "base64");
}

const doings = {
  goto: async ({ tab }, { url }) => (await tab.goto(url))?.status() ?? null,
  click: ({ tab }, { at }) => tab.locator(at).click(),
  fill: ({ tab }, { at, text }) => tab.locator(at).fill(text),
  choose: ({ tab }, { at, text }) => tab.locator(at).selectOption(text).then(() => null),
  press: ({ tab }, { key }) => tab.keyboard.press(key),
  type: ({ tab }, { text }) => tab.keyboard.type(text),
  hover: ({ tab }, { at }) => tab.locator(at).hover(),
  wait: ({ tab }, { at, state }) => tab.locator(at).first().waitFor({ state }),
  text: ({ tab }, { at }) => tab.locator(at).innerText(),
  texts: ({ tab }, { at }) => tab.locator(at).allInnerTexts(),
  count: ({ tab }, { at }) => tab.locator(at).count(),
  value: ({ tab }, { at }) => tab.locator(at).inputValue(),
  attribute: ({ tab }, { at, name }) => tab.locator(at).getAttribute(name),
  scroll: ({ tab }, { at, by }) => tab.locator(at).evaluate((one, y) => one.scrollBy(0, y), by),
  evaluate: ({ tab }, { script }) => tab.evaluate(script),
  clipboard: ({ tab }) => tab.evaluate(() => navigator.clipboard.readText()),
  size: ({ tab }, { width, height }) => tab.setViewportSize({ width, height }),
  theme: ({ tab }, { theme }) => tab.emulateMedia({ colorScheme: theme }),
  screenshot: ({ tab }, { path, whole }) => tab.screenshot({ path, fullPage: whole }).then(() => null),
  photograph,
  url: ({ tab }) => tab.url(),
  wrong: ({ wrong }) => wrong,
  forgive: ({ forgiven }, { text }) => void forgiven.push(text),
  downloaded,
  findings,
  offline: ({ tab }, { offline }) => tab.context().setOffline(offline),
  close: async ({ tab }, { page }) => {
    pages.delete(page);
    await tab.context().close();
  },
};

async function answer(request) {
  if (request.do === "open") return open(request);
  return doings[request.do](pages.get(request.page), request);
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let said;
  try {
    said = { id: request.id, result: (await answer(request)) ?? null };
  } catch (error) {
    said = { id: request.id, error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
await browser.close();
