// Light or dark: the system's, unless somebody chose otherwise on this device.

export type Theme = 'light' | 'dark';

const KEY = 'fireside.theme';

function systemTheme(): Theme {
  return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
}

function chosenTheme(): Theme | undefined {
  try {
    const chosen = localStorage.getItem(KEY);
    return chosen === 'light' || chosen === 'dark' ? chosen : undefined;
  } catch {
    return undefined;
  }
}

export function currentTheme(): Theme {
  return chosenTheme() ?? systemTheme();
}

export function applyTheme(): void {
  const chosen = chosenTheme();
  if (chosen) document.documentElement.dataset['theme'] = chosen;
  else delete document.documentElement.dataset['theme'];
}

/** Turns to the other theme; coming back to the system's own forgets the choice, so that the page follows the system again. */
export function switchTheme(): Theme {
  const next: Theme = currentTheme() === 'dark' ? 'light' : 'dark';
  try {
    if (next === systemTheme()) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  document.documentElement.dataset['theme'] = next;
  return next;
}
