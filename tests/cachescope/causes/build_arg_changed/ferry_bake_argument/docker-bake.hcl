group "default" {
  targets = ["deck", "engine"]
}
target "_common" {
  dockerfile = "Dockerfile"
  network = "host"
}
target "deck" {
  inherits = ["_common"]
  target = "deck"
  args = { ROUTE = "south", COLOR = "red" }
  tags = ["deck:1"]
}
target "engine" {
  inherits = ["_common"]
  target = "engine"
  tags = ["engine:1"]
}
