// Runs before the first paint, so that a theme one has chosen does not flash up after the system's.
import { applyTheme } from './theme';

applyTheme();
