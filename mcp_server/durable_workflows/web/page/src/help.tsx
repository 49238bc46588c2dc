/** The keys that have an effect now. */

import { allKeys } from "./keys";
import { Dialog } from "./parts/Dialog";
import { Icon } from "./parts/Icon";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const NAMES: Readonly<Record<string, string>> = { "mod+k": MAC ? "⌘ K" : "Ctrl K", Enter: "Enter", Escape: "Esc" };

/** The form in which a key is shown. */
export function keyName(key: string): string {
  return NAMES[key] ?? key;
}

export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <div class="dialog-title">
        <h2>Keys</h2>
        <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <dl class="keys">
        {allKeys().map(({ key, what }) => (
          <div key={`${key} ${what}`} class="key-row">
            <dt>{what}</dt>
            <dd>
              {keyName(key)
                .split(" ")
                .map((part) => (
                  <kbd key={part}>{part}</kbd>
                ))}
            </dd>
          </div>
        ))}
        <div class="key-row">
          <dt>Close what is open</dt>
          <dd>
            <kbd>Esc</kbd>
          </dd>
        </div>
      </dl>
    </Dialog>
  );
}
