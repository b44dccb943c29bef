// The part of node:crypto that the SDK's behaviour suite uses, in a page.

export const randomUUID = () => crypto.randomUUID();
