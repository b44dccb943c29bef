/** The behaviour suite against the server that applications test with. */

import { startFake } from '../support/server.js';
import { scenarios } from './scenarios.js';

scenarios('FakeServer', () => startFake());
