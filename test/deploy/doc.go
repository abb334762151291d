// Package deploy checks the files of deploy/ and docker-compose.yml that no engine here can run.
package deploy
