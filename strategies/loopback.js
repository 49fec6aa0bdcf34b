// Loaded into NNI's manager before its own code: servers that name no address listen on this machine alone.
'use strict';
const net = require('net');
const host = process.env.FACENAS_NNI_HOST || '127.0.0.1';
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (first, ...rest) {
    if (typeof first === 'number' && typeof rest[0] !== 'string') {
        return listen.call(this, first, host, ...rest);
    }
    if (first && typeof first === 'object' && first.port !== undefined && !first.host && !first.path) {
        return listen.call(this, { ...first, host }, ...rest);
    }
    return listen.call(this, first, ...rest);
};
