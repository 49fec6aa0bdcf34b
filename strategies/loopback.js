// Loaded into NNI's manager before its own code: servers that name no address listen on this machine alone. Where
// FACENAS_NNI_HOST names one more address, for trials on other machines, what comes there is passed on: NNI's own
// processes look for the manager on localhost.
'use strict';
const net = require('net');
const LOOPBACK = '127.0.0.1';
const host = process.env.FACENAS_NNI_HOST || LOOPBACK;
const everywhere = host === '0.0.0.0' || host === '::';
const listen = net.Server.prototype.listen;

function passOn(port) {
    const gate = net.createServer(outside => {
        const inside = net.connect(port, LOOPBACK);
        outside.on('error', () => inside.destroy()).pipe(inside);
        inside.on('error', () => outside.destroy()).pipe(outside);
    });
    listen.call(gate, port, host);
    gate.unref();
}

net.Server.prototype.listen = function (first, ...rest) {
    if (typeof first !== 'number' || typeof rest[0] === 'string') {
        return listen.call(this, first, ...rest);
    }
    if (host !== LOOPBACK && !everywhere) {
        passOn(first);
    }
    return listen.call(this, first, everywhere ? host : LOOPBACK, ...rest);
};
