// The page's few pictures, drawn in the colour of the text around them.

import type { ComponentChildren } from 'preact';

function Icon({ children, filled }: { children: ComponentChildren; filled?: boolean }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      fill={filled ? 'currentColor' : 'none'}
      stroke={filled ? 'none' : 'currentColor'}
      stroke-width="1.9"
      stroke-linejoin="round"
      stroke-linecap="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export const Flame = () => (
  <Icon>
    <path d="M12 2.8c.6 3.4 5.6 5.5 5.6 10.600A5.600 5.600 0 0 1 12 19.200a5.600 5.600 0 0 1-5.600-5.800c0-2.300 1.200-3.900 2.400-5 .2 1.500.9 2.400 1.800 2.800C10.400 8 10.700 5 12 2.800Z" />
    <path d="M4 21.300h16" />
  </Icon>
);

export const Spark = () => (
  <Icon filled>
    <path d="M12 2.500c.7 5.600 2.900 8.100 9 9.500-6.100 1.400-8.300 3.900-9 9.500-.7-5.600-2.900-8.100-9-9.500 6.100-1.400 8.300-3.900 9-9.500Z" />
  </Icon>
);

export const Stop = () => (
  <Icon filled>
    <rect x="5.500" y="5.500" width="13" height="13" rx="2.500" />
  </Icon>
);

export const Sun = () => (
  <Icon>
    <circle cx="12" cy="12" r="4.200" />
    <path d="M12 2.500v2M12 19.500v2M4.500 4.500l1.600 1.600M17.900 17.900l1.600 1.600M2.500 12h2M19.500 12h2M4.500 19.500l1.600-1.600M17.900 6.100l1.600-1.600" />
  </Icon>
);

export const Moon = () => (
  <Icon>
    <path d="M20 14.200A8.300 8.300 0 0 1 9.800 4a8.300 8.300 0 1 0 10.200 10.200Z" />
  </Icon>
);

export const Pencil = () => (
  <Icon>
    <path d="m4.500 19.500.9-4L16.200 4.700a1.800 1.800 0 0 1 2.600 0l.5.5a1.800 1.800 0 0 1 0 2.600L8.500 18.600Z" />
  </Icon>
);

export const Signpost = () => (
  <Icon>
    <path d="M12 3v18M12 5.500h6.500l2.500 2.500-2.500 2.500H12M12 12.500H6L3.500 15 6 17.500h6" />
  </Icon>
);

export const Down = () => (
  <Icon>
    <path d="M12 5v13.500M6.500 13l5.500 5.500L17.500 13" />
  </Icon>
);
