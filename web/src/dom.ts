// The few things that the views do to the document.

/** The one element that a selector names; its absence is a mistake of ours. */
export function part<E extends HTMLElement = HTMLElement>(root: ParentNode, selector: string): E {
  const element = root.querySelector<E>(selector);
  if (!element) throw new Error(`The page has no ${selector}`);
  return element;
}

/** Sets text only where it differs, so that live regions speak of changes alone. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** One or two letters for a name. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0]];
  return letters.map((word) => [...(word ?? '')][0] ?? '').join('').toUpperCase();
}

/** Gives a user's avatar a colour of its own. */
export function paintAvatar(avatar: HTMLElement, userId: number | undefined): void {
  avatar.toggleAttribute('data-filled', userId !== undefined);
  if (userId !== undefined) avatar.style.setProperty('--hue', String((userId * 137) % 360));
}
