// A thousand contacts through jsforce: written, read, changed, upserted and taken away, over REST and over Bulk 2.0.
// Called with the address of the org; says on stdout, as JSON, what it found. node_modules come by NODE_PATH.
"use strict";

const jsforce = require("jsforce");

const NEW = 1000;
const KEY = "Crm_Assets_Row_Id__c";
const SOQL = `SELECT Id, LastName, FirstName, ${KEY} FROM Contact WHERE LastName LIKE 'Js %'`;

async function connect(url, secret) {
  const connection = new jsforce.Connection({
    version: "67.0",
    oauth2: { loginUrl: url, clientId: "sandbox", clientSecret: secret },
  });
  await connection.authorize({ grant_type: "client_credentials" });
  return connection;
}

const read = (connection, soql) => connection.query(soql, { autoFetch: true, maxFetch: 10 * NEW });
const succeeded = (results) => results.filter((one) => one.success).length;
const refusal = (call) => call.then(() => null, (error) => error.errorCode || error.name);

async function overRest(connection) {
  const contacts = connection.sobject("Contact");
  const many = { allowRecursive: true };
  const fresh = Array.from({ length: NEW }, (_, n) => ({ LastName: `Js ${n}`, FirstName: "Ünï", [KEY]: `js-${n}` }));
  const made = await contacts.create(fresh, many);
  const changed = await contacts.update(made.map(({ id }) => ({ Id: id, FirstName: null })), many);
  const upserted = await contacts.upsert(fresh.map(({ LastName, [KEY]: key }) => ({ LastName, [KEY]: key, Title: "Dr" })), KEY, many);
  const pages = await connection.request({
    method: "GET",
    url: `/services/data/v67.0/query?q=${encodeURIComponent(SOQL)}`,
    headers: { "Sforce-Query-Options": "batchSize=200" },
  });
  let rows = pages.records.length;
  let page = pages;
  while (!page.done) {
    page = await connection.queryMore(page.nextRecordsUrl);
    rows += page.records.length;
  }
  const found = (await read(connection, SOQL)).records;
  return {
    made: succeeded(made),
    changed: succeeded(changed),
    upserted: succeeded(upserted),
    created_by_upsert: upserted.filter((one) => one.created).length,
    paged: rows,
    found: found.map((row) => [row.Id, row.LastName, row.FirstName, row[KEY]]),
    gone: succeeded(await contacts.destroy(made.slice(0, 200).map(({ id }) => id))),
    left: (await read(connection, SOQL)).totalSize,
  };
}

async function overBulk(connection) {
  connection.bulk2.pollInterval = 50;
  const input = Array.from({ length: NEW }, (_, n) => ({ LastName: `Bulk "${n}", Ünï`, FirstName: "a\nb" }));
  const job = await connection.bulk2.loadAndWaitForResults({ object: "Contact", operation: "insert", input });
  const stream = await connection.bulk2.query("SELECT Id, LastName, FirstName FROM Contact WHERE LastName LIKE 'Bulk %'");
  const rows = await stream.toArray();
  return {
    made: job.successfulResults.length,
    failed: job.failedResults.length,
    found: rows.map((row) => [row.Id, row.LastName, row.FirstName]),
  };
}

async function main(url) {
  const connection = await connect(url, "sandbox");
  const fields = (await connection.sobject("Contact").describe()).fields;
  const report = {
    objects: (await connection.describeGlobal()).sobjects.map((one) => one.name),
    key: fields.find((one) => one.name === KEY),
    rest: await overRest(connection),
    bulk: await overBulk(connection),
    usage: connection.limitInfo.apiUsage,
    refused: {
      secret: await refusal(connect(url, "guess")),
      field: await refusal(connection.query("SELECT Nope FROM Contact")),
      record: await refusal(connection.sobject("Contact").create({ FirstName: "Nobody" })),
    },
  };
  process.stdout.write(JSON.stringify(report));
}

main(process.argv[2]).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
