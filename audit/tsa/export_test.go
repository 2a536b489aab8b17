package tsa

var StampsOnly = stampsOnly
