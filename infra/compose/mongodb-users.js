// The planes' accounts in MongoDB: the data plane writes the database, the serving plane reads it. Repeatable.
const { readFileSync } = require("fs");
const secret = (name) => readFileSync(`/run/secrets/${name}`, "utf8").trim();

const owner = `polyplane_owner:${secret("mongo_owner_password")}`;
const admin = new Mongo(`mongodb://${owner}@mongodb:27017/?authSource=admin&directConnection=true`).getDB("admin");

const accounts = [
  ["polyplane_data", secret("mongo_data_password"), "readWrite"],
  ["polyplane_serving", secret("mongo_serving_password"), "read"],
];

for (const [user, pwd, role] of accounts) {
  const account = { pwd, roles: [{ role, db: "polyplane" }] };
  if (admin.getUser(user) === null) {
    admin.createUser({ user, ...account });
  } else {
    admin.updateUser(user, account);
  }
}
