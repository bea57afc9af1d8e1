#!/usr/bin/env bash
# Apache Kafka on 127.0.0.1:9092, of one node, for trying a stream. Its data stays in out/broker.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
data=out/broker
mkdir -p "$data"
cat > "$data/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9093
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
advertised.listeners=PLAINTEXT://127.0.0.1:9092
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$PWD/$data/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
kafka() { java -Xmx512m -cp 'native/kafka/libs/*' "$@"; }
if [ ! -d "$data/data" ]; then
    kafka kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c "$data/server.properties"
fi
echo 'Kafka on 127.0.0.1:9092; in a configuration: brokers = "127.0.0.1:9092". Ctrl-C ends it.'
exec java -Xmx512m -cp 'native/kafka/libs/*' kafka.Kafka "$data/server.properties"
